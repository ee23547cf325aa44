"""From the desired status to the actual one: matching, keyed workers, delivery, resync."""
