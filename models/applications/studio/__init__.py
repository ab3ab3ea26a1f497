"""The application `studio`: pictures of products on models, paid from a balance in the users' rows."""
