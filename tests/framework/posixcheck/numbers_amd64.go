package main

const (
	sysRenameat2     = 316
	sysCopyFileRange = 326
	sysSyncfs        = 306
)
