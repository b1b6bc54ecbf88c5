"""What is wrong with a machine, by the picture that its files give: findings, the cause before what follows from it."""
