package main

const (
	sysRenameat2     = 276
	sysCopyFileRange = 285
	sysSyncfs        = 267
)
