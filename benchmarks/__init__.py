"""What payhook costs, each figure beside that of a naive version in the same run (`make bench`)."""
