"""The application's tables (schema `public`): what producers and pollers of any language are written against."""
