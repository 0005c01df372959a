module sandlot/launch

go 1.24
