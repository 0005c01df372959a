package network

import (
	"encoding/binary"
	"net/netip"
	"syscall"
)

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	headerIPv4 = 20
	headerIPv6 = 40
	headerTCP  = 20
	headerUDP  = 8

	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16
)

// A packet is one IP packet taken apart. Its slices lie in the buffer that it was read into.
type packet struct {
	whole          []byte
	payload        []byte // what follows the IP header
	protocol       byte
	source, target netip.AddrPort // with port 0 for other protocols than TCP and UDP
}

// parse takes a packet apart; false for what no program should have sent: fragments, options and
// extension headers among it.
func parse(raw []byte) (p packet, ok bool) {
	var source, target netip.Addr
	switch {
	case len(raw) >= headerIPv4 && raw[0] == 0x45:
		size := int(binary.BigEndian.Uint16(raw[2:]))
		if size < headerIPv4 || size > len(raw) || binary.BigEndian.Uint16(raw[6:])&0x3fff != 0 {
			return p, false
		}
		p = packet{whole: raw[:size], payload: raw[headerIPv4:size], protocol: raw[9]}
		source = netip.AddrFrom4([4]byte(raw[12:16]))
		target = netip.AddrFrom4([4]byte(raw[16:20]))
	case len(raw) >= headerIPv6 && raw[0]>>4 == 6:
		size := headerIPv6 + int(binary.BigEndian.Uint16(raw[4:]))
		if size > len(raw) {
			return p, false
		}
		p = packet{whole: raw[:size], payload: raw[headerIPv6:size], protocol: raw[6]}
		source = netip.AddrFrom16([16]byte(raw[8:24]))
		target = netip.AddrFrom16([16]byte(raw[24:40]))
	default:
		return p, false
	}
	var from, to uint16
	switch p.protocol {
	case protocolTCP:
		if len(p.payload) < headerTCP {
			return p, false
		}
	case protocolUDP:
		if len(p.payload) < headerUDP || int(binary.BigEndian.Uint16(p.payload[4:])) != len(p.payload) {
			return p, false
		}
	}
	if p.protocol == protocolTCP || p.protocol == protocolUDP {
		from, to = binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:])
	}
	p.source, p.target = netip.AddrPortFrom(source, from), netip.AddrPortFrom(target, to)
	return p, true
}

// opens says whether this is the first packet of a TCP connection.
func (p *packet) opens() bool {
	return p.protocol == protocolTCP && p.payload[13]&(flagSYN|flagACK|flagRST|flagFIN) == flagSYN
}

// addressed makes a packet with room for size bytes of payload, from source to target.
func addressed(protocol byte, source, target netip.Addr, size int) (whole, payload []byte) {
	if source.Is4() {
		whole = make([]byte, headerIPv4+size)
		whole[0], whole[8], whole[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
		copy(whole[12:], source.AsSlice())
		copy(whole[16:], target.AsSlice())
		binary.BigEndian.PutUint16(whole[10:], ^fold(sum(0, whole[:headerIPv4])))
		return whole, whole[headerIPv4:]
	}
	whole = make([]byte, headerIPv6+size)
	whole[0], whole[6], whole[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(whole[4:], uint16(size))
	copy(whole[8:], source.AsSlice())
	copy(whole[24:], target.AsSlice())
	return whole, whole[headerIPv6:]
}

// seal writes the checksum of a payload at an offset. Source: RFC 1071, RFC 8200 section 8.1.
func seal(protocol byte, source, target netip.Addr, payload []byte, at int) {
	total := uint32(0)
	if protocol != protocolICMP {
		total = sum(total, source.AsSlice())
		total = sum(total, target.AsSlice())
		total += uint32(protocol) + uint32(len(payload))
	}
	check := ^fold(sum(total, payload))
	if check == 0 && protocol == protocolUDP {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(payload[at:], check)
}

func sum(total uint32, data []byte) uint32 {
	for ; len(data) >= 2; data = data[2:] {
		total += uint32(binary.BigEndian.Uint16(data))
		if total >= 1<<31 {
			total = total&0xffff + total>>16
		}
	}
	if len(data) == 1 {
		total += uint32(data[0]) << 8
	}
	return total
}

func fold(total uint32) uint16 {
	for total > 0xffff {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}

// datagram makes a UDP packet.
func datagram(source, target netip.AddrPort, data []byte) []byte {
	whole, payload := addressed(protocolUDP, source.Addr(), target.Addr(), headerUDP+len(data))
	binary.BigEndian.PutUint16(payload, source.Port())
	binary.BigEndian.PutUint16(payload[2:], target.Port())
	binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
	copy(payload[headerUDP:], data)
	seal(protocolUDP, source.Addr(), target.Addr(), payload, 6)
	return whole
}

// refusal makes the answer to the first packet of a connection that nobody listens for.
func (p *packet) refusal() []byte {
	whole, payload := addressed(protocolTCP, p.target.Addr(), p.source.Addr(), headerTCP)
	binary.BigEndian.PutUint16(payload, p.target.Port())
	binary.BigEndian.PutUint16(payload[2:], p.source.Port())
	binary.BigEndian.PutUint32(payload[8:], binary.BigEndian.Uint32(p.payload[4:])+1)
	payload[12], payload[13] = headerTCP/4<<4, flagRST|flagACK
	seal(protocolTCP, p.target.Addr(), p.source.Addr(), payload, 16)
	return whole
}

// unreachable makes the error that a router would send for a packet, so that its sender's system
// call ends with errno. Source: RFC 792, RFC 4443 section 3.1; Linux icmp_err_convert.
func (p *packet) unreachable(from netip.Addr, errno syscall.Errno) []byte {
	quoted := p.whole[:min(len(p.whole), 512)]
	kind, code, protocol := byte(3), byte(13), byte(protocolICMP)
	six := p.source.Addr().Is6()
	if six {
		kind, code, protocol = 1, 1, protocolICMPv6
	}
	switch errno {
	case syscall.ENETUNREACH:
		code = 0
	case syscall.EHOSTUNREACH:
		code = map[bool]byte{false: 1, true: 3}[six]
	case syscall.ECONNREFUSED:
		code = map[bool]byte{false: 3, true: 4}[six]
	}
	whole, payload := addressed(protocol, from, p.source.Addr(), 8+len(quoted))
	payload[0], payload[1] = kind, code
	copy(payload[8:], quoted)
	seal(protocol, from, p.source.Addr(), payload, 2)
	return whole
}
