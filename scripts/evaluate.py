"""Top-1 accuracy of a model: see «python scripts/evaluate.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import evaluate, main

    main(evaluate)
