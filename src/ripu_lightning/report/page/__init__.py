"""Many runs: comparable groups, statistics over seeds, a recommendation, and the HTML page."""
