module grid.build/e2e/cluster/build/pause

go 1.24.0
