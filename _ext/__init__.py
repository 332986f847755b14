"""How the chapters become the site: the build command and the Sphinx extensions behind it."""
