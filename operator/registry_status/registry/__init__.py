"""The registry side: the protocol, the Service Center client, its transport, and a development server."""
