"""What the kernel's rules predict: queues, timers, ports, the take-over of TIME-WAIT; and where the rules changed."""
