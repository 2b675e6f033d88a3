"""What server and clients say to each other, free of any transport."""
