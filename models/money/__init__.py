"""Money: charges, refunds and what users are given again."""
