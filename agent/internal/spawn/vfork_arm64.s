#include "textflag.h"

// func vfork(trap, a, b uintptr) (pid uintptr, errno syscall.Errno)
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-40
	MOVD a+8(FP), R0
	MOVD b+16(FP), R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $0, R5
	MOVD trap+0(FP), R8
	SVC
	CMN  $4095, R0
	BHS  failed
	MOVD R0, pid+24(FP)
	MOVD $0, errno+32(FP)
	RET
failed:
	NEG  R0, R0
	MOVD $0, pid+24(FP)
	MOVD R0, errno+32(FP)
	RET
