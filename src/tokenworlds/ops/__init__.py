"""Operations whose fastest form depends on the machine: each beside a plain form that it equals."""
