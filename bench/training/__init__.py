"""Training of the shipped model by distillation: apart from the product, which never imports it."""
