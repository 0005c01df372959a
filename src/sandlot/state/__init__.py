"""What is on disk: where (`paths`), who holds it (`lock`), and the sandboxes that exist (`records`)."""
