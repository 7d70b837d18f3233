"""Where values come from: this process or a service, with credentials and retries."""
