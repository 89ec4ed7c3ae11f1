"""How the heads that were not published are made: trainings for ``affectkit train``, and their recipes beside them."""
