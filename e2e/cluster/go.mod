module grid.build/e2e/cluster

go 1.24.0
