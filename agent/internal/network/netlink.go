package network

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
)

// Source: rtnetlink(7), include/uapi/linux/rtnetlink.h, fib_rules.h, if_addr.h.
const (
	tableGate = 90

	newRule         = 32
	ruleToTable     = 1
	attrFibIifname  = 3
	attrFibPriority = 6
	attrFibMark     = 10
	flagNoDAD       = 2
)

// A netlinkSocket asks the kernel to change addresses, routes and rules.
type netlinkSocket struct {
	fd       int
	sequence uint32
}

func openNetlink() (*netlinkSocket, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return &netlinkSocket{fd: fd}, nil
}

func (n *netlinkSocket) close() { syscall.Close(n.fd) }

// An attribute of a request.
type attribute struct {
	kind  uint16
	value []byte
}

func number(kind uint16, value uint32) attribute {
	return attribute{kind, binary.NativeEndian.AppendUint32(nil, value)}
}

// request asks for something new and waits for the answer.
func (n *netlinkSocket) request(kind uint16, header []byte, attributes ...attribute) error {
	n.sequence++
	message := make([]byte, syscall.NLMSG_HDRLEN, 256)
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_ACK|syscall.NLM_F_CREATE|syscall.NLM_F_REPLACE)
	binary.NativeEndian.PutUint32(message[8:], n.sequence)
	message = append(message, header...)
	for _, a := range attributes {
		message = binary.NativeEndian.AppendUint16(message, uint16(syscall.SizeofRtAttr+len(a.value)))
		message = binary.NativeEndian.AppendUint16(message, a.kind)
		message = append(message, a.value...)
		for len(message)%4 != 0 {
			message = append(message, 0)
		}
	}
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	if err := syscall.Sendto(n.fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	size, _, err := syscall.Recvfrom(n.fd, buffer, 0)
	if err != nil {
		return err
	}
	answers, err := syscall.ParseNetlinkMessage(buffer[:size])
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if answer.Header.Type == syscall.NLMSG_ERROR && len(answer.Data) >= 4 {
			if errno := -int32(binary.NativeEndian.Uint32(answer.Data)); errno != 0 {
				return syscall.Errno(errno)
			}
			return nil
		}
	}
	return errors.New("netlink gave no answer")
}

func family(address netip.Addr) byte {
	if address.Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

// address gives the interface an address.
func (n *netlinkSocket) address(index int, prefix netip.Prefix) error {
	a := prefix.Addr()
	header := []byte{family(a), byte(prefix.Bits()), flagNoDAD, syscall.RT_SCOPE_UNIVERSE, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	return n.request(syscall.RTM_NEWADDR, header,
		attribute{syscall.IFA_LOCAL, a.AsSlice()}, attribute{syscall.IFA_ADDRESS, a.AsSlice()})
}

// route sends everything of a family to a gateway on an interface; with table tableGate to the
// guest's own sockets instead.
func (n *netlinkSocket) route(family byte, index int, gateway netip.Addr, table byte) error {
	kind, scope := byte(syscall.RTN_UNICAST), byte(syscall.RT_SCOPE_UNIVERSE)
	attributes := []attribute{number(syscall.RTA_OIF, uint32(index))}
	if table == tableGate {
		kind, scope = syscall.RTN_LOCAL, syscall.RT_SCOPE_HOST
	} else {
		attributes = append(attributes, attribute{syscall.RTA_GATEWAY, gateway.AsSlice()})
	}
	header := []byte{family, 0, 0, 0, table, syscall.RTPROT_BOOT, scope, kind, 0, 0, 0, 0}
	return n.request(syscall.RTM_NEWROUTE, header, attributes...)
}

// rule sends what an attribute picks out to the gate's table, before every other rule.
func (n *netlinkSocket) rule(family byte, what attribute) error {
	header := []byte{family, 0, 0, 0, tableGate, 0, 0, ruleToTable, 0, 0, 0, 0}
	return n.request(newRule, header, what, number(attrFibPriority, 10))
}
