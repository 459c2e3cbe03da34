"""What distillation is made of: batches, views, methods, and the module where student and teacher meet."""
