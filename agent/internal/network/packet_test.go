package network

import (
	"bytes"
	"net/netip"
	"syscall"
	"testing"
)

var (
	guest4 = netip.MustParseAddrPort("10.231.0.2:40000")
	there4 = netip.MustParseAddrPort("93.184.216.34:53")
	guest6 = netip.MustParseAddrPort("[fd5a::2]:40000")
	there6 = netip.MustParseAddrPort("[2606:2800::1]:53")
)

// right says whether the checksums of a packet are: their sum with everything else is -0.
func right(p packet) bool {
	if p.source.Addr().Is4() && fold(sum(0, p.whole[:headerIPv4])) != 0xffff {
		return false
	}
	total := uint32(0)
	if p.protocol != protocolICMP {
		total = sum(sum(0, p.source.Addr().AsSlice()), p.target.Addr().AsSlice())
		total += uint32(p.protocol) + uint32(len(p.payload))
	}
	return fold(sum(total, p.payload)) == 0xffff
}

func TestWhatIsMadeCanBeParsed(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{guest4, there4}, {guest6, there6}} {
		for _, data := range []string{"", "x", "odd", "even"} {
			p, ok := parse(datagram(ends[0], ends[1], []byte(data)))
			if !ok || p.source != ends[0] || p.target != ends[1] || !right(p) {
				t.Fatalf("%v %q: %+v", ends, data, p)
			}
			if !bytes.Equal(p.payload[headerUDP:], []byte(data)) {
				t.Fatalf("%q", p.payload)
			}
			for _, errno := range []syscall.Errno{
				syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES,
			} {
				e, ok := parse(p.unreachable(p.target.Addr(), errno))
				if !ok || e.target.Addr() != p.source.Addr() || !right(e) {
					t.Fatalf("%v: %+v", errno, e)
				}
				if !bytes.Equal(e.payload[8:], p.whole) {
					t.Fatal("the packet is not quoted")
				}
			}
		}
	}
}

func TestARefusalAnswersTheOpening(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{guest4, there4}, {guest6, there6}} {
		whole, payload := addressed(protocolTCP, ends[0].Addr(), ends[1].Addr(), headerTCP)
		payload[0], payload[1], payload[3] = byte(ends[0].Port()>>8), byte(ends[0].Port()), byte(ends[1].Port())
		copy(payload[4:], []byte{1, 2, 3, 255})
		payload[12], payload[13] = 0x50, flagSYN
		p, ok := parse(whole)
		if !ok || !p.opens() {
			t.Fatal("not seen as the first packet")
		}
		r, ok := parse(p.refusal())
		if !ok || r.source != ends[1] || r.target != ends[0] || !right(r) || r.opens() {
			t.Fatalf("%+v", r)
		}
		if !bytes.Equal(r.payload[8:12], []byte{1, 2, 4, 0}) || r.payload[13] != flagRST|flagACK {
			t.Fatalf("% x", r.payload)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(datagram(guest4, there4, []byte("x")))
	f.Add(datagram(guest6, there6, []byte("x")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, ok := parse(raw); ok {
			p.opens()
			p.unreachable(p.target.Addr(), syscall.EHOSTUNREACH)
			if p.protocol == protocolTCP {
				p.refusal()
			}
		}
	})
}
