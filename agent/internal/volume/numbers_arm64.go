package volume

// The kernel's number of a call that package syscall lacks.
const sysSyncfs = 267
