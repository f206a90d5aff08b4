"""The coordinator: accepts tasks, keeps them durably, decides when and where each may run."""
