"""What must hold at the end of the demo, each as a function that returns what is wrong."""
