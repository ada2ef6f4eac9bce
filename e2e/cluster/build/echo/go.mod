module grid.build/e2e/cluster/build/echo

go 1.24.0
