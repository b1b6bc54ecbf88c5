"""What somebody might type or hand over, thousands of times: nothing breaks, hangs, stays, or is lost."""
