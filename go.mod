module depotfs

go 1.26
