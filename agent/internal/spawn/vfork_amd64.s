#include "textflag.h"

// The child runs on the same stack and overwrites the return address: it waits in a register.
//
// func vfork(trap, a, b uintptr) (pid uintptr, errno syscall.Errno)
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ a+8(FP), DI
	MOVQ b+16(FP), SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	XORL R9, R9
	MOVQ trap+0(FP), AX
	POPQ R12
	SYSCALL
	PUSHQ R12
	CMPQ AX, $-4095
	JCC  failed
	MOVQ AX, pid+24(FP)
	MOVQ $0, errno+32(FP)
	RET
failed:
	NEGQ AX
	MOVQ $0, pid+24(FP)
	MOVQ AX, errno+32(FP)
	RET
