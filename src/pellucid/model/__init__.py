"""Networks: their arithmetic, their texts, their layer tables and the classifier that is kept."""
