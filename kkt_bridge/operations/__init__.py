"""Operations: state, health and alerts for people, and the commands of operators."""
