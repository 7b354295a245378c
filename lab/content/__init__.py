"""What the lab's hosts run: packages, stand-in services, databases, Puppet, monit and HAProxy."""
