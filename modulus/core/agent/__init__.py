"""What the resident agent decides: roles, events, pauses between tries, reboot holds."""
