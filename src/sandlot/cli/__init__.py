"""The command line. `main` holds the table of commands; each file is one group of them, imported
when it is used. stdout carries only data, stderr the talk."""
