run:
	go run ./cmd/edge demo
