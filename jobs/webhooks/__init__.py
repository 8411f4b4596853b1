"""What Pressroom sends to others over HTTP: callbacks to callers, alerts to operators."""
