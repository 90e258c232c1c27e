"""Pictures of one look into another, learnt without pairs."""
