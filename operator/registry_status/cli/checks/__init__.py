"""The parts of `registry-status check`: each looks at one thing, and answers with findings."""
