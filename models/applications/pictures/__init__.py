"""The application's tables (schema `public`), which producers and pollers in any language read and write."""
