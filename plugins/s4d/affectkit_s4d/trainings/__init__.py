"""How the weights of S4D are made: masked pre-training, and fine-tuning on clips and pictures together."""
