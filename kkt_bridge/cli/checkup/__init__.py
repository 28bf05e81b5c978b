"""What `kkt-bridge doctor` looks at, one part of an installation a module; nothing here changes anything."""
