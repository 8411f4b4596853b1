"""What Pressroom is compared with. Run by the Python of their own virtual environment; they import nothing of ours."""
