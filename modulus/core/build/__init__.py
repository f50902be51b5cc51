"""What a build is: its plan, its script, what makes its bits, and what proves them."""
