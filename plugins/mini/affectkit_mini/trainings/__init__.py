"""How the weights of this package are made: trainings for ``affectkit train``, and their recipes beside them."""
