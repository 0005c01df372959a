package network

import (
	"net/netip"
	"testing"
)

func TestKeyOfAConnection(t *testing.T) {
	guest := netip.MustParseAddrPort("10.231.0.2:40000")
	got := key(guest, netip.MustParseAddrPort("1.2.3.4:443"))
	// As the kernel's program writes it: the guest's port in the machine's order, the other one
	// and the address in the network's.
	want := [keySize]byte{0x40, 0x9c, 0, 0, 0, 0, 1, 0xbb, 1, 2, 3, 4}
	if got != want {
		t.Errorf("%x, not %x", got, want)
	}
	if mapped := key(guest, netip.MustParseAddrPort("[::ffff:1.2.3.4]:443")); mapped != want {
		t.Errorf("%x for IPv4 by an IPv6 socket", mapped)
	}
	six := key(guest, netip.MustParseAddrPort("[2001:db8::1:2]:443"))
	if six[8] != 0 || six[9] != 1 || six[11] != 2 {
		t.Errorf("%x for IPv6", six)
	}
}

func TestJumpsOfProgramsStayInside(t *testing.T) {
	o := &owners{byCookie: 3, byPort: 4}
	programs := map[string][][8]byte{
		"connect": o.noteConnect(), "watch": watch(o.notePort()), "watch without": watch(nil),
		"lookup": lookup(3, 2),
	}
	for name, code := range programs {
		for at, i := range code {
			if op := i[0]; op != 0x05 && op != 0x15 && op != 0x55 {
				continue
			}
			to := at + 1 + int(int16(uint16(i[2])|uint16(i[3])<<8))
			if to <= at || to >= len(code) {
				t.Errorf("%s: the jump at %d leads to %d of %d", name, at, to, len(code))
			} else if code[to-1][0] == 0x18 {
				t.Errorf("%s: the jump at %d leads into the middle of an instruction", name, at)
			}
		}
		if last := code[len(code)-1]; last != leave() {
			t.Errorf("%s does not return", name)
		}
	}
}

func TestWithoutProgramsNobodyIsKnown(t *testing.T) {
	var o *owners
	if pid, name := o.of(netip.MustParseAddrPort("10.231.0.2:1"), netip.MustParseAddrPort("1.2.3.4:2")); pid != 0 || name != nil {
		t.Errorf("%d %q", pid, name)
	}
}
