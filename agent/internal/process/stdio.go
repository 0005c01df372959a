package process

import "sandlot/agent/internal/mux"

// stdio is the handler of a STDIO stream. It is the process's input or output that acts.
type stdio struct {
	process    *Process
	stream     *mux.Stream
	descriptor uint64
}

// Data is the process's input. Nothing is said on an output's stream.
func (h *stdio) Data(b []byte) {
	if in := h.input(); in != nil {
		in.put(h.stream, b)
	}
}

// Fin closes the process's input.
func (h *stdio) Fin() {
	if in := h.input(); in != nil {
		in.end(h.stream)
	}
}

// Reset detaches the stream.
func (h *stdio) Reset(bool) {
	p := h.process
	if h.descriptor == 0 {
		if in := p.input; in != nil {
			in.detach(h.stream)
		}
	} else if out := p.outputs[h.descriptor-1]; out != nil {
		out.detach(h.stream)
	}
}

func (h *stdio) input() *input {
	if h.descriptor != 0 {
		return nil
	}
	return h.process.input
}
