"""The plugins that come with Sandlot. They use nothing but the hooks, as anybody's do."""
