module posix

go 1.24
