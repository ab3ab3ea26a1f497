"""Money: charges, refunds, regeneration of tokens and subscriptions."""
