"""From raw rows to shuffled batches: synthetic events, preprocessing by Spark ML, the Arrow feed, the spool."""
