"""Following logs and spools: each line is booked once."""
