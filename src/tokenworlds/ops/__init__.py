"""Operations whose fastest form depends on the machine, each tested against a plain form."""
